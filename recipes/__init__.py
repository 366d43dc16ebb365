"""YAML recipes and the typed schema that reads them."""
