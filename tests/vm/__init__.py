"""A real kernel anywhere: run a command as root in a throw-away virtual machine that has VTI, ESP and XFRM."""
