"""Imports the store by itself, without the integration's own `__init__`, which imports Home Assistant.

The first argument of the program is the folder of the checkout.
"""

IMPORT_ALONE = """
import sys, types
alone = types.ModuleType("alone")
alone.__path__ = [sys.argv[1] + "/custom_components/nemotron_security"]
sys.modules["alone"] = alone
"""
