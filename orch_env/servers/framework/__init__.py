"""The base of all servers: tools from methods, tables, sessions."""
