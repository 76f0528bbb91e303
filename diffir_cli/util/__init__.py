"""What several packages need once: files, folders, tables, the process itself."""
