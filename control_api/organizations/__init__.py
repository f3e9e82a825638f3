"""Organizations. One for now, made at the first start, with one owner."""
