"""gateway documents: the operator's verbs on the document store."""
