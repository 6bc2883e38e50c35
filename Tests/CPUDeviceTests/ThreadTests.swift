import CPUKernels
import Testing

/// The pool's state is one for the process: what changes it runs serially, under this suite.
@Suite(.serialized)
struct KernelStateTests {}

extension KernelStateTests {
  @Suite struct ThreadTests {
    @Test func everyTaskRunsOnce() {
      let saved = sl_thread_count()
      defer { sl_set_thread_count(saved) }
      for threads: Int32 in [1, 2, 5] {
        sl_set_thread_count(threads)
        #expect(sl_thread_count() == threads)
        var counts = [Int32](repeating: 0, count: 1000)
        counts.withUnsafeMutableBufferPointer { buffer in
          sl_parallel(
            1000,
            { context, task, thread in
              context?.assumingMemoryBound(to: Int32.self)[Int(task)] += thread >= 0 ? 1 : 100
            }, buffer.baseAddress)
        }
        #expect(counts.allSatisfy { $0 == 1 })
      }
    }

    @Test func everyTaskOfSharesRunsOnce() {
      let saved = sl_thread_count()
      defer { sl_set_thread_count(saved) }
      for threads: Int32 in [1, 2, 5] {
        sl_set_thread_count(threads)
        for tasks in [0, 1, 3, 4, 1000] {
          var counts = [Int32](repeating: 0, count: 1000)
          counts.withUnsafeMutableBufferPointer { buffer in
            sl_parallel_shares(
              Int64(tasks),
              { context, task, thread in
                context?.assumingMemoryBound(to: Int32.self)[Int(task)] += thread >= 0 ? 1 : 100
              }, buffer.baseAddress)
          }
          #expect(counts.indices.allSatisfy { counts[$0] == ($0 < tasks ? 1 : 0) })
        }
      }
    }

    @Test func nestedCallsRunSerially() {
      var sums = [Int64](repeating: 0, count: 16)
      sums.withUnsafeMutableBufferPointer { buffer in
        sl_parallel(
          16,
          { context, task, _ in
            guard let sum = context?.assumingMemoryBound(to: Int64.self) else { return }
            sl_parallel(
              100,
              { inner, task, thread in inner?.assumingMemoryBound(to: Int64.self).pointee += task + Int64(thread) },
              sum + Int(task))
          }, buffer.baseAddress)
      }
      #expect(sums.allSatisfy { $0 == 4950 })
    }

    @Test func noTasksIsNothing() {
      sl_parallel(0, { _, _, _ in Issue.record("ran") }, nil)
    }

    @Test func pathsRiseWithTheProcessor() {
      #expect(sl_has_avx512bf16() <= sl_has_avx512())
      #expect(sl_has_avx512() <= sl_has_avx2())
      sl_force_path(0)
      #expect(sl_current_path() == SL_PATH_GENERIC)
      sl_force_path(-1)
    }
  }
}
