"""Natural chains of calls over the stateful servers, and the tasks that are made from them."""
