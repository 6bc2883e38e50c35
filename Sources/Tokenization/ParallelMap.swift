import Glibc
import Synchronization

/// The results of `transform` in the order of `range`, made by several threads; the error of the lowest index is thrown.
package func parallelMap<Value: Sendable, Failure: Error>(
  _ range: Range<Int>, threads: Int, _ transform: @escaping @Sendable (Int) throws(Failure) -> Value
) throws(Failure) -> [Value] {
  let workers = min(threads, range.count)
  if workers <= 1 { return try range.map(transform) }
  let work = ParallelWork(range: range, transform: transform)
  var started: [pthread_t] = []
  for _ in 1..<workers {
    var thread = pthread_t()
    let context = Unmanaged.passRetained(work as AnyParallelWork)
    let failed = pthread_create(
      &thread, nil,
      { context in
        guard let context else { return nil }
        Unmanaged<AnyParallelWork>.fromOpaque(context).takeRetainedValue().run()
        return nil
      }, context.toOpaque())
    // Fewer threads are as good: this one does what is left.
    if failed != 0 {
      context.release()
      break
    }
    started.append(thread)
  }
  work.run()
  for thread in started { pthread_join(thread, nil) }
  return try work.results()
}

private class AnyParallelWork: @unchecked Sendable {
  func run() {}
}

/// Indices are handed out one by one; each result has a place of its own.
private final class ParallelWork<Value: Sendable, Failure: Error>: AnyParallelWork, @unchecked Sendable {
  private let range: Range<Int>
  private let transform: @Sendable (Int) throws(Failure) -> Value
  private let next: Atomic<Int>
  private let values: Mutex<[Result<Value, Failure>?]>

  init(range: Range<Int>, transform: @escaping @Sendable (Int) throws(Failure) -> Value) {
    self.range = range
    self.transform = transform
    next = Atomic(range.lowerBound)
    values = Mutex(Array(repeating: nil, count: range.count))
  }

  override func run() {
    while true {
      let index = next.wrappingAdd(1, ordering: .relaxed).oldValue
      guard index < range.upperBound else { return }
      let value: Result<Value, Failure>
      do throws(Failure) { value = .success(try transform(index)) } catch { value = .failure(error) }
      values.withLock { $0[index - range.lowerBound] = value }
    }
  }

  func results() throws(Failure) -> [Value] {
    var all: [Value] = []
    for value in values.withLock({ $0 }) { if let value { all.append(try value.get()) } }
    return all
  }
}
