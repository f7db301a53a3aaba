"""The proxy's command table against what live servers say of their commands; command_table.py has
the tests, this file tells it which build's table to look at."""
import os

import command_table
from command_table import *  # noqa: F401,F403  (the test cases)
from harness.proxy import BINARY

command_table.options.dump = os.path.join(os.path.dirname(BINARY), "tests", "dump_command_table")
