import CPUKernels

/// Runs `body(task)` for every task below `tasks` on the kernels' threads; the first error is thrown when all are done.
package func parallel(tasks: Int, _ body: @Sendable (Int) throws -> Void) throws {
  struct Context {
    let body: @Sendable (Int) throws -> Void
    let failures: UnsafeMutablePointer<(any Error)?>
  }
  guard tasks > 0 else { return }
  let failures = UnsafeMutablePointer<(any Error)?>.allocate(capacity: tasks)
  failures.initialize(repeating: nil, count: tasks)
  defer {
    failures.deinitialize(count: tasks)
    failures.deallocate()
  }
  withoutActuallyEscaping(body) { body in
    withUnsafePointer(to: Context(body: body, failures: failures)) { context in
      sl_parallel(
        Int64(tasks),
        { context, task, _ in
          guard let context = context?.assumingMemoryBound(to: Context.self) else { return }
          // Each task writes its own slot only.
          do { try context.pointee.body(Int(task)) } catch { context.pointee.failures[Int(task)] = error }
        }, UnsafeMutableRawPointer(mutating: context))
    }
  }
  for task in 0..<tasks { if let failure = failures[task] { throw failure } }
}
