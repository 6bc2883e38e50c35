import Glibc

/// The memory of this process, as the kernel counts it.
package enum ProcessMemory {
  /// The most bytes that were resident since the process began or ``resetPeak()``; nil where the kernel does not say.
  package static var peak: Int? {
    guard let stream = fopen("/proc/self/status", "r") else { return nil }
    defer { fclose(stream) }
    var line: UnsafeMutablePointer<CChar>?
    var capacity = 0
    defer { free(line) }
    while getline(&line, &capacity, stream) >= 0, let line {
      let words = String(cString: line).split(whereSeparator: { $0 == " " || $0 == "\t" || $0 == "\n" })
      if words.first == "VmHWM:", words.count >= 2, let kibibytes = Int(words[1]) { return kibibytes * 1024 }
    }
    return nil
  }

  /// Begins to count the peak anew from what is resident now.
  package static func resetPeak() {
    guard let stream = fopen("/proc/self/clear_refs", "w") else { return }
    fputs("5", stream)
    fclose(stream)
  }
}
