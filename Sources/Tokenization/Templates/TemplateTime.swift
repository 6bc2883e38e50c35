import Glibc

/// A moment as `strftime_now` writes it; the same for all renderings of one conversation.
struct TemplateTime: Sendable {
  private let seconds: Int
  private let microseconds: Int

  static var now: TemplateTime {
    var time = timespec()
    clock_gettime(CLOCK_REALTIME, &time)
    return TemplateTime(seconds: time.tv_sec, microseconds: time.tv_nsec / 1000)
  }

  init(seconds: Int, microseconds: Int = 0) {
    self.seconds = seconds
    self.microseconds = microseconds
  }

  /// The local time in C's format, with Python's `%f`; a time without a zone writes nothing for `%z` and `%Z`.
  func formatted(_ format: String) -> String {
    var time = time_t(seconds)
    var parts = tm()
    localtime_r(&time, &parts)
    var expanded = ""
    var isDirective = false
    for scalar in format.unicodeScalars {
      guard isDirective else {
        isDirective = scalar == "%"
        if !isDirective { expanded.unicodeScalars.append(scalar) }
        continue
      }
      isDirective = false
      switch scalar {
      case "f":
        let digits = String(microseconds)
        expanded += String(repeating: "0", count: 6 - digits.utf8.count) + digits
      case "z", "Z": break
      default:
        expanded += "%"
        expanded.unicodeScalars.append(scalar)
      }
    }
    if isDirective { expanded += "%" }
    if expanded.isEmpty { return "" }
    var buffer = [CChar](repeating: 0, count: expanded.utf8.count * 64 + 64)
    let length = strftime(&buffer, buffer.count, expanded, &parts)
    return String(decoding: buffer[..<length].map { UInt8(bitPattern: $0) }, as: UTF8.self)
  }
}

/// The numbers that `random` draws with: the same in each rendering, so that a rendering can be repeated.
struct TemplateRandom: RandomNumberGenerator {
  private var state: UInt64 = 3407

  mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var value = state
    value = (value ^ (value >> 30)) &* 0xBF58_476D_1CE4_E5B9
    value = (value ^ (value >> 27)) &* 0x94D0_49BB_1331_11EB
    return value ^ (value >> 31)
  }
}
