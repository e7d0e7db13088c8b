"""Kernels that execute the pages: no history, and no remark on how they are reached."""

c = get_config()  # noqa: F821
c.HistoryManager.enabled = False
c.IPKernelApp.log_level = "ERROR"
