"""HashiCorp Vault: its transit engine wraps keys, its key/value engine holds values of secrets. Imports hvac."""
