"""A whole market on one machine for trying things out: anvil, server processes, funded accounts.

`anvil` finds the chain's program, `folder` says where everything lies, `processes` starts and stops
what runs in the background, `founding` makes a new network, `running` keeps one up, `looking` tells
how it does.

Not guaranteed: secrecy or safety. Every key of every party lies in one folder beside its password,
and the chain gives ether to whoever asks. Nothing here is for a chain where money is real.
"""
