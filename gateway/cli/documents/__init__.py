"""gateway documents: the operator's commands on the document store."""
