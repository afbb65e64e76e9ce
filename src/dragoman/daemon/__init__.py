"""Where rooms are wired together into processes: the parent, the gateways, the control process."""
