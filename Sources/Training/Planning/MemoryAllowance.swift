import Models
import Tensors

/// What a run may take of a machine's memory.
public enum MemoryAllowance {
  /// Stays free on a device with memory of its own, for what operations allocate when they first need it.
  private static let margin = 512 << 20

  /// Bytes that can be taken beside what the process holds already, of `budget` or of what is free; nil where the system does not
  /// say what is free.
  public static func left(of budget: Int?, on device: any Device) -> Int? {
    if let memory = device.memory { return min(memory.free - margin, budget.map { $0 - memory.used } ?? .max) }
    if let budget { return budget - ProcessMemory.residentByteCount }
    // The rest is for whatever else the machine is doing.
    return ProcessMemory.availableByteCount.map { $0 / 10 * 9 }
  }

  /// Bytes that a process may hold that has loaded nothing yet: `budget`, or what is free.
  public static func whole(_ budget: Int?, on device: any Device) -> Int {
    if let budget { return budget }
    guard let left = left(of: nil, on: device) else { return .max / 10 * 9 }
    return left + (device.memory?.used ?? 0)
  }

  /// Bytes of the host's memory for what a device with memory of its own leaves there, `budget` or most of what is free; 0 for
  /// other devices.
  public static func host(_ budget: Int? = nil, beside device: any Device) -> Int {
    device.memory == nil ? 0 : budget ?? (ProcessMemory.availableByteCount ?? 0) / 10 * 8
  }
}
