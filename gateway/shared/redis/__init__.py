"""Redis or Valkey as the keeper of the books: what several machines share."""
