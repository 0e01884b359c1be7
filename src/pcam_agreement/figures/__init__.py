"""Figures of a run: tables and arrays in, figures out; the only modules that know matplotlib."""
