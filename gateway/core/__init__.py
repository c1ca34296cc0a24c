"""The pure core: no await, no clock, no log, no socket."""
