import CUDADriver
import Tensors

/// Times work in the stream by pairs of events, so that nothing waits for anything else than without it.
final class CUDATimer: DeviceTimer {
  private struct Interval {
    var share: TimeShare
    var start: UnsafeMutableRawPointer
    var end: UnsafeMutableRawPointer?
    /// The interval that this one lies within.
    var outer: Int?
  }

  private let context: CUDAContext
  private var intervals: [Interval] = []
  private var current: Int?

  init(_ context: CUDAContext) { self.context = context }

  deinit {
    context.enterForRelease()
    for interval in intervals {
      _ = context.driver.pointee.destroyEvent(interval.start)
      if let end = interval.end { _ = context.driver.pointee.destroyEvent(end) }
    }
  }

  func begin(_ share: TimeShare) throws {
    intervals.append(Interval(share: share, start: try mark(), outer: current))
    current = intervals.count - 1
  }

  func end() throws {
    guard let index = current else { return }
    intervals[index].end = try mark()
    current = intervals[index].outer
  }

  func seconds() throws -> [TimeShare: Double] {
    try context.synchronize()
    var total: [TimeShare: Double] = [:]
    for interval in intervals {
      guard let end = interval.end else { continue }
      var milliseconds: Float = 0
      try context.check(
        context.driver.pointee.elapsed(&milliseconds, interval.start, end), "reading the time between events")
      total[interval.share, default: 0] += Double(milliseconds) / 1000
      if let outer = interval.outer { total[intervals[outer].share, default: 0] -= Double(milliseconds) / 1000 }
    }
    return total
  }

  private func mark() throws -> UnsafeMutableRawPointer {
    try context.enter()
    var event: UnsafeMutableRawPointer?
    try context.check(context.driver.pointee.createEvent(&event, 0), "making an event")
    guard let event else { throw DeviceError("the driver made no event") }
    try context.check(context.driver.pointee.record(event, context.stream), "recording an event")
    return event
  }
}

extension CUDADevice {
  /// A timer that sees what is asked of the device from now on, until it goes.
  public func makeTimer() throws -> (any DeviceTimer)? {
    let made = CUDATimer(context)
    timer = made
    return made
  }
}
