#if canImport(Glibc)
  import Glibc
#endif

/// What the system says of memory.
public enum ProcessMemory {
  /// The largest resident size of this process so far, in bytes.
  public static var peakByteCount: Int { value(of: "VmHWM:", in: "/proc/self/status") ?? 0 }
  /// Begins to count the peak anew from what is resident now.
  public static func resetPeak() {
    let descriptor = open("/proc/self/clear_refs", O_WRONLY | O_CLOEXEC)
    guard descriptor >= 0 else { return }
    _ = write(descriptor, "5", 1)
    close(descriptor)
  }
  /// The resident size of this process, in bytes.
  public static var residentByteCount: Int { value(of: "VmRSS:", in: "/proc/self/status") ?? 0 }
  /// What programs can still take before the system swaps, in bytes; the limit of the control group where that is less.
  public static var availableByteCount: Int? {
    guard let machine = value(of: "MemAvailable:", in: "/proc/meminfo") else { return nil }
    guard let limit = number(in: "/sys/fs/cgroup/memory.max"), let used = number(in: "/sys/fs/cgroup/memory.current")
    else { return machine }
    return min(machine, max(0, limit - used))
  }

  private static func value(of key: String, in path: String) -> Int? { value(of: key, inText: text(path)) }

  /// The bytes that a line of the kernel's gives in kB, as `VmHWM:   9928088 kB`.
  ///
  /// Blanks follow the tab where the number leaves room for them.
  static func value(of key: String, inText text: String) -> Int? {
    for line in text.split(separator: "\n") where line.hasPrefix(key) {
      let words = line.dropFirst(key.count).split { $0 == " " || $0 == "\t" }
      return words.first.flatMap { Int($0) }.map { $0 * 1024 }
    }
    return nil
  }

  private static func number(in path: String) -> Int? {
    text(path).split(separator: "\n").first.flatMap { Int($0) }
  }

  private static func text(_ path: String) -> String {
    let descriptor = open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { return "" }
    defer { close(descriptor) }
    var bytes = [UInt8](repeating: 0, count: 16_384)
    let count = read(descriptor, &bytes, bytes.count)
    return String(decoding: bytes.prefix(max(0, count)), as: UTF8.self)
  }
}
