import CUDADriver
import Tensors

/// cuDNN's plans for attention over documents of one length, made at a shape's first use and kept.
final class AttentionPlans {
  private let library: UnsafePointer<sl_cudnn>
  private let handle: UnsafeMutableRawPointer
  private let context: CUDAContext
  private var plans: [Key: OpaquePointer?] = [:]

  private struct Key: Hashable {
    var numbers: [Int64]
    var scale: Float
  }

  /// nil where cuDNN was not found, or does not start.
  init?(_ context: CUDAContext, _ libraries: CUDALibraries) {
    guard let library = libraries.cudnn, library.pointee.version() >= 90_000 else { return nil }
    var handle: UnsafeMutableRawPointer?
    guard library.pointee.create(&handle) == 0, let handle else { return nil }
    guard library.pointee.setStream(handle, context.stream) == 0 else { return nil }
    self.library = library
    self.handle = handle
    self.context = context
  }

  deinit {
    context.enterForRelease()
    for case let plan? in plans.values { sl_destroy_attention_plan(library, plan) }
    _ = library.pointee.destroy(handle)
  }

  /// The length of the documents, where all are of one that cuDNN computes right and faster than our kernels.
  func length(_ shape: AttentionShape, _ spans: [AttentionSpan]) -> Int? {
    guard shape.window == nil, shape.headDimension % 8 == 0, shape.headDimension <= 128, let first = spans.first else {
      return nil
    }
    let length = first.queries.count
    // Up to 9.15 other lengths need a mask of their own.
    guard length >= 256, length % 128 == 0 else { return nil }
    var next = first.queries.lowerBound
    for span in spans {
      guard span.queries == span.keys, span.queries.lowerBound == next, span.queries.count == length else { return nil }
      next += length
    }
    return length
  }

  /// Runs a problem; false where cuDNN has no engine for it.
  func run(
    _ problem: sl_attention_problem, _ addresses: sl_attention_addresses, workspace: (Int) throws -> UInt
  ) throws -> Bool {
    var problem = problem
    let key = Key(
      numbers: [
        problem.batch, problem.length, problem.heads, problem.keyHeads, problem.width, problem.ldq, problem.ldk,
        problem.ldv, problem.ldo, problem.ldStatistics, problem.lddo, problem.lddq, problem.lddk, problem.lddv,
        Int64(problem.backward), Int64(problem.deterministic),
      ], scale: problem.scale)
    let plan: OpaquePointer?
    if let known = plans[key] {
      plan = known
    } else {
      var made: OpaquePointer?
      // An error here is the library's way to say that it knows no engine.
      _ = sl_plan_attention(library, handle, &problem, &made)
      plan = made
      plans[key] = .some(plan)
    }
    guard let plan else { return false }
    var addresses = addresses
    let room = try workspace(sl_attention_plan_workspace(plan))
    let code = sl_run_attention_plan(library, handle, plan, &addresses, UInt64(room))
    guard code == 0 else {
      throw DeviceError(
        "cuDNN: attention over \(problem.batch) × \(problem.length) tokens failed with error \(code)")
    }
    return true
  }
}
