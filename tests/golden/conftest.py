# Doctests are collected by importing a module, and this one needs torch.
collect_ignore = ["make.py"]
