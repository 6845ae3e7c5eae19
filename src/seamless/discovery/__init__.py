"""What a repository tells about the service in it: from its files to parameters, each with the reason.

Pure: `files.Files` is the names of a commit's files and the text of the few that are read. Nothing here fails on what
a repository holds: a file that cannot be understood suggests nothing.
"""

from __future__ import annotations

from seamless.discovery.files import Files
from seamless.discovery.proposing import Suggestion, folders_of, propose

__all__ = ["Files", "Suggestion", "folders_of", "propose"]
