"""Everything that is durable: tables, migrations, the one writer, sealed payloads, keys. Knows no feature."""
