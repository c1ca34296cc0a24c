"""The processes that serve: made of one that has loaded the code, on sockets that outlive them."""
