"""Where the live config comes from: a file, the revisions themselves, ZooKeeper, MongoDB."""
