#if canImport(Glibc)
  import Glibc
#endif

/// A clock that never jumps, for measuring how long things take.
public enum MonotonicClock {
  /// Seconds since some moment in the past.
  public static func now() -> Double {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    return Double(time.tv_sec) + Double(time.tv_nsec) * 1e-9
  }
}
