"""The parts of bench/run: machine (the kernel's figures), servers (what is started), load (what is
driven through it), matrix, memory, scaling (what is measured) and report (tables)."""
