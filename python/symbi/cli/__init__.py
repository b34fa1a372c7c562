"""`symbi` on the command line: an adapter over the public nouns, with no rule of its own.

Why a package of small modules: `symbi --help` must answer within 150 ms, so a command's module is imported
when the command is called (`main`), and what every command shares stands once (`frame`, `output`, `exits`).
Not here: the native core. Whatever a command shows, a program can get from the public names.
"""
