"""What docs/sharing.md says, tried: a folder and an S3 server as remotes, a bare repository, merges, faults."""

import json
import os
import re
import stat
from collections.abc import Iterator

import boto3
import pytest
from moto.server import ThreadedMotoServer

from repository import Toy

pytestmark = pytest.mark.slow
REMOTES = ("folder", "s3")


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The address of an S3 server on loopback with an empty bucket."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"ACCESS_KEY_ID": "x", "SECRET_ACCESS_KEY": "y", "DEFAULT_REGION": "us-east-1"}.items():
            patch.setenv(f"AWS_{name}", value)
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        patch.setenv("AWS_MAX_ATTEMPTS", "1")
        moto = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
        moto.start()
        address = "http://{}:{}".format(*moto.get_host_and_port())
        boto3.client("s3", endpoint_url=address).create_bucket(Bucket="bucket")
        yield address
        moto.stop()


@pytest.fixture(scope="module")
def shared(server: str, tmp_path_factory: pytest.TempPathFactory) -> Toy:
    """A finished repository that was pushed to a bare one, its data to both remotes."""
    folder = tmp_path_factory.mktemp("shared")
    toy = Toy(folder / "toy", "a", "b")
    toy.repro()
    for name, address in {"folder": str(folder / "remote"), "s3": "s3://bucket/dvc"}.items():
        toy.run("dvc", "remote", "add", "--default", name, address)
        toy.run("dvc", "remote", "modify", name, "verify", "true")  # else a corrupt object is pulled in silence
    toy.run("dvc", "remote", "modify", "s3", "endpointurl", server)
    toy.commit()
    toy.run("git", "init", "-q", "--bare", "-b", "main", str(folder / "bare"))
    toy.run("git", "remote", "add", "origin", str(folder / "bare"))
    toy.run("git", "push", "-q", "origin", "main")
    for name in REMOTES:
        toy.run("dvc", "push", "-r", name)
    toy.ran()
    return toy


@pytest.mark.parametrize("remote", REMOTES)
def test_a_clone_pulls_what_was_pushed_and_has_nothing_to_run(shared, remote, tmp_path):
    clone = shared.clone(tmp_path / "clone")
    clone.run("dvc", "pull", "-r", remote)
    assert clone.made() == shared.made()
    assert clone.repro() == set()
    assert clone.run("git", "status", "--porcelain") == ""


def test_what_one_has_computed_another_one_takes_from_the_run_cache(shared, tmp_path):
    one, other = (shared.clone(tmp_path / name) for name in ("one", "other"))
    for clone in (one, other):
        clone.change("network", "b", "lr", value=2)
    one.run("dvc", "repro", "--pull")
    assert one.ran() == ["b"]
    one.run("dvc", "push", "--run-cache")
    other.run("dvc", "repro", "--pull")
    assert other.ran() == []
    assert (other.lock(), other.made()) == (one.lock(), one.made())


def test_an_experiment_goes_through_a_bare_repository(shared, tmp_path):
    shared.run("dvc", "exp", "run", "-q", "-n", "faster", "-S", "network.b.lr=9")
    shared.run("dvc", "exp", "push", "-r", "folder", "origin", "faster")
    shared.run("git", "checkout", "-q", ".")
    assert shared.ran() == ["b"]
    clone = shared.clone(tmp_path / "clone", shared.path.parent / "bare")
    clone.run("dvc", "exp", "pull", "-r", "folder", "origin", "faster")
    clone.run("dvc", "exp", "apply", "faster")
    clone.run("dvc", "pull", "-r", "folder")
    assert clone.read()["network"]["b"]["lr"] == 9
    assert clone.repro() == set()


def test_two_branches_that_added_a_network_each_are_merged_without_training_again(shared, tmp_path):
    r = shared.clone(tmp_path / "clone")
    r.run("dvc", "pull", "-r", "folder")
    for name in ("c", "d"):
        r.run("git", "checkout", "-q", "-b", f"with-{name}", "main")
        r.run("dvc", "checkout", "-q")
        raw = r.read()
        r.write({"recipes": [*raw["recipes"], name], "network": raw["network"] | {name: {"lr": 1}}})
        r.repro()
        assert r.ran() == [name, "report"]
        r.commit()
    said = r.run("git", "merge", "with-c", check=False)
    assert "CONFLICT (content): Merge conflict in dvc.lock" in said
    merged = {"recipes": ["a", "b", "c", "d"], "network": {name: {"lr": 1} for name in "abcd"}}
    r.write(merged)
    r.run("git", "checkout", "--ours", "dvc.lock", "metrics")
    r.repro()  # `dvc checkout` would fail: our lock does not know c
    assert r.ran() == ["report"]
    assert json.loads((r.path / "metrics" / "summary.json").read_text()).keys() >= set("abcd")
    r.commit()
    assert r.repro() == set()


@pytest.mark.parametrize("remote", REMOTES)
def test_a_corrupt_object_of_a_remote_is_an_error_and_never_data(shared, server, remote, tmp_path):
    right = shared.made()
    digest = re.search(r"path: data/checkpoints/a\n\s+hash: md5\n\s+md5: (\S+)", shared.lock().decode())[1]
    key = f"files/md5/{digest[:2]}/{digest[2:]}"
    if remote == "folder":
        path = shared.path.parent / "remote" / key
        path.chmod(0o644)
        path.write_text("wrong")
        path.chmod(stat.S_IREAD)  # as DVC leaves them, and takes as a sign that nobody has touched them
    else:
        place, client = {"Bucket": "bucket", "Key": f"dvc/{key}"}, boto3.client("s3", endpoint_url=server)
        assert client.get_object(**place)["Body"].read().decode() == right["data/checkpoints/a"]
        client.put_object(**place, Body=b"wrong")
    clone = shared.clone(tmp_path / "clone")
    said = clone.run("dvc", "pull", "-r", remote, check=False)
    assert re.search(r"ERROR: failed to pull.*\ndata/checkpoints/a\n", said), said
    assert clone.made() == {path: content for path, content in right.items() if path != "data/checkpoints/a"}
    clone.repro()
    assert clone.ran() == ["a"]
    assert clone.made() == right
    if remote == "s3":  # from a folder, the pull has removed it
        client.delete_object(**place)
    clone.run("dvc", "push", "-r", remote)
    assert (path.read_bytes() if remote == "folder" else client.get_object(**place)["Body"].read()).startswith(b"{")


def test_a_remote_that_cannot_be_reached_is_an_error_that_names_it(shared, server, tmp_path):
    clone = shared.clone(tmp_path / "clone")
    for remote, words in (
        (f"url = {tmp_path / 'nowhere'}", "do not exist neither locally nor on remote"),
        ("url = s3://away/dvc\nendpointurl = http://127.0.0.1:9", "Could not connect to .*http://127.0.0.1:9/away"),
    ):
        (clone.path / ".dvc" / "config.local").write_text(f"['remote \"other\"']\n{remote}\n")
        said = clone.run("dvc", "pull", "-r", "other", check=False)
        assert re.search(words, said), said
        assert "ERROR: failed to pull data from the cloud" in said
        assert clone.made() == {}


def test_missing_credentials_are_an_error_that_says_so(shared, tmp_path):
    clone = shared.clone(tmp_path / "clone")
    clone.environment = {key: value for key, value in os.environ.items() if not re.match("AWS_.*KEY", key)}
    clone.environment |= {"PATH": shared.environment["PATH"], "HOME": str(tmp_path)}
    said = clone.run("dvc", "pull", "-r", "s3", check=False)
    assert "ERROR: failed to connect to s3" in said and "Unable to locate credentials" in said
    assert clone.made() == {}
