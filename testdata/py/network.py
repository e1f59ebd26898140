"""Tries to reach the network by name and by number."""
import socket

try:
    print(socket.getaddrinfo("example.org", 80)[0][4])
except OSError as error:
    print("look-up refused:", type(error).__name__)
try:
    with socket.socket() as s:
        s.settimeout(1)
        s.connect(("192.0.2.1", 80))
    print("connected")
except OSError as error:
    print("connection refused:", type(error).__name__)
