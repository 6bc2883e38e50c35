// Room: CPUDevice.
