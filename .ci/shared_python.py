"""Prints the folder of this Python's shared library; fails where there is none."""

import sys
import sysconfig
from pathlib import Path

folder, name = sysconfig.get_config_var("LIBDIR"), sysconfig.get_config_var("LDLIBRARY")
if not (folder and name and ".a" not in name and (Path(folder) / name).exists()):
    sys.exit(1)
print(folder)
