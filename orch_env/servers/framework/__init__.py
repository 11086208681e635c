"""What all servers are written on: tools from methods, tables, sessions."""
