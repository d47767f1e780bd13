# Doctests are collected by importing a module; here are none, and some need torch.
collect_ignore_glob = ["*.py"]
