"""Reading and writing documents: formats, splits, schemas, sources and output directories."""
