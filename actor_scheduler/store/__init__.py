"""Stores: the port (`base`) and its adapters."""
