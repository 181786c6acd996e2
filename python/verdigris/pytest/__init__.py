"""The pytest plugin, `-p verdigris.pytest`: sync tests in green functions on a loop.

Like `verdigris.__init__`, this file lists names and holds no code. They are the hooks that pytest
looks for in a plugin's module.

    _options     options, settings and the mark; the patch, before conftest files are imported
    _choice      which tests run green, and on which loops
    _running     has fixtures and tests run on the loop; begins and ends it
    _loop        a loop for tests, that stands still in between
    _asyncio_loop, _trio_loop, _main_coroutine    the same for each loop
"""

from verdigris.pytest._choice import green_loop as green_loop
from verdigris.pytest._choice import pytest_collection_modifyitems as pytest_collection_modifyitems
from verdigris.pytest._choice import pytest_generate_tests as pytest_generate_tests
from verdigris.pytest._loop import LeakedTaskWarning as LeakedTaskWarning
from verdigris.pytest._options import pytest_addoption as pytest_addoption
from verdigris.pytest._options import pytest_configure as pytest_configure
from verdigris.pytest._options import pytest_load_initial_conftests as pytest_load_initial_conftests
from verdigris.pytest._options import pytest_report_header as pytest_report_header

__all__ = ["LeakedTaskWarning", "green_loop"]
