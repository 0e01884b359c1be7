"""The stages of dvc.yaml: each reads parameters, calls the library and writes its outputs."""
