"""The live config as operators change it: revisions, who may, what differs, the chain of the audit."""
