# Read by interactive shells that are no login shells.
. /etc/profile
