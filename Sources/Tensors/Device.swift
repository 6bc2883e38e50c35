/// A processor that holds tensors and runs the fused operations that a Llama is made of.
///
/// The model's mathematics is written once against this list, forward beside backward. Shapes are `[rows, columns]`; `T`
/// is the number of tokens of a packed batch. "fp32" and "compute" name the element type an argument must have:
/// ``computeType`` is the type of matrix operands and of what is kept for the backward pass. The residual stream and its
/// gradient are ``residualType``. Unless a comment says "adds", outputs are assigned. A device is used from one thread
/// at a time.
public protocol Device: TrainingOperations, Sendable {
  /// What a person calls this device, e.g. "AMD EPYC (2 threads, avx512-bf16, oneDNN 2.6.3)".
  var description: String { get }
  /// Element type of matrix operands and of activations kept for the backward pass.
  var computeType: DType { get }
  /// Element type of the residual stream and of its gradient.
  var residualType: DType { get }
  /// The number of tokens of a batch should be a multiple of this.
  var rowAlignment: Int { get }
  /// Rows of logits that the head should compute at once.
  var headRows: Int { get }
  /// Where the device multiplies the projections of a group as one: the ``Tensor/tail`` that it wants after the rows of
  /// their input, after those of their gradients, and which lie side by side as their outputs do; nil where every
  /// projection is a product of its own. `ranks`: of the group's low-rank pairs.
  func operandTail(ranks: [Int]) -> Int?
  /// Whether the device looks embeddings up itself, in the rows of a frozen matrix.
  var embedsTokens: Bool { get }
  /// The device's own memory; nil where the device works in the host's.
  var memory: DeviceMemory? { get }
  /// Caches in pages and recorded steps, where the device has them.
  var pagedDecoding: (any PagedDecoding)? { get }
  /// Begins to count the memory's peak anew.
  func resetPeak()
  /// Refuses from now on to allocate what would bring the device's memory in use over `limit` bytes; nil: no limit.
  func limitMemory(to limit: Int?)
  /// A timer of this device's own; nil where an operation is over when it returns, and the host's clock is as good.
  func makeTimer() throws -> (any DeviceTimer)?

  // MARK: Memory

  /// Allocates at least `byteCount` bytes of undefined content.
  func allocate(byteCount: Int) throws -> DeviceBuffer
  /// Allocates what is written from the beginning of some rows on and perhaps never to their ends, such as a cache of a
  /// sequence that grows: where there is virtual memory, only what is written takes any.
  func allocateGrowing(byteCount: Int) throws -> DeviceBuffer
  /// Copies dense host memory of `tensor.byteCount` bytes into `tensor`.
  func upload(_ source: UnsafeRawBufferPointer, to tensor: Tensor) throws
  /// Copies `tensor` into dense host memory of `tensor.byteCount` bytes.
  func download(_ tensor: Tensor, to destination: UnsafeMutableRawBufferPointer) throws
  /// Sets every element to zero.
  func zero(_ tensor: Tensor) throws
  /// Copies elements between tensors of one shape, converting their type when it differs.
  func copy(_ source: Tensor, to destination: Tensor) throws
  /// Copies row `rows[i]` of `source` to row i of `destination`.
  func gather(_ source: Tensor, rows: [Int32], to destination: Tensor) throws
  /// Copies row i of `source` to row `rows[i]` of `destination`; other rows keep what they hold.
  func scatter(_ source: Tensor, to destination: Tensor, rows: [Int32]) throws

  /// Memory of the host beside the device's: a place of each of `byteCounts` bytes.
  func makeHostStore(places byteCounts: [Int]) throws -> any HostStore

  // MARK: Matrices

  /// Takes in frozen matrices that are multiplied with the same x, one for each source.
  func makeFrozenMatrices(_ sources: [MatrixSource], directions: ProductDirections) throws -> [any FrozenMatrix]
  /// Room for frozen matrices of these shapes, each with its segment, that lie with the host and take turns in some `places` on the
  /// device; nil where the device's memory is the host's.
  func makeMatrixStream(_ shapes: [FrozenShape], places: Int) throws -> (any MatrixStream)?
  /// Frozen matrices of one input, of uniform random values in ±bound, for measurements without a checkpoint; they serve
  /// both directions.
  func makeRandomMatrices(
    outputs: [Int], inputs: Int, bound: Float, seed: UInt64, storage: FrozenStorage, segment: MatrixSegment?
  ) throws -> [any FrozenMatrix]
  /// What frozen matrices of these shapes would take, made in this order; `places`: of their segments on the device.
  func frozenFootprint(_ groups: [FrozenShape], places: Int) -> FrozenFootprint
  /// Row `tokens[i]` of `table` becomes row i of `x` (residual `[tokens, inputs]`); where ``embedsTokens``.
  func embed(_ tokens: [Int32], _ table: any FrozenMatrix, into x: Tensor) throws
  /// Makes `matrix` serve `directions` as well; `source` must give the same rows as when it was made.
  func extend(_ matrix: any FrozenMatrix, directions: ProductDirections, source: MatrixSource) throws

  /// y_j = x · W_jᵀ + (dropout(x) · A_jᵀ) · (s·B_j)ᵀ for each projection j of a group that reads the same x.
  /// - x: compute `[T, inputs]`.
  /// - outputs: `[T, outputs_j]`, compute or fp32; added to instead when `accumulate`.
  /// - lowRank: compute `[T, rank_j]`, receives x · A_jᵀ for the backward pass; nil where a projection has no pair.
  /// - dropout: nil outside training.
  func linear(
    _ x: Tensor, _ projections: [Projection], into outputs: [Tensor], lowRank: [Tensor?], accumulate: Bool,
    dropout: DropoutKey?) throws

  /// Only what ``linear(_:_:into:lowRank:accumulate:dropout:)`` leaves in `lowRank`, without the products themselves.
  func lowRankInput(_ x: Tensor, _ projections: [Projection], into lowRank: [Tensor?], dropout: DropoutKey?) throws

  /// dx = Σ_j dy_j · W_j + (dy_j · s·B_j) · A_j; adds to each pair's `gradientB`.
  /// - gradients: dy_j, compute `[T, outputs_j]`.
  /// - lowRank: what ``linear(_:_:into:lowRank:accumulate:dropout:)`` left.
  /// - lowRankGradients: compute `[T, rank_j]`, receives dy_j · s·B_j.
  /// - dx: `[T, inputs]`, compute or fp32; nil when nothing below needs it.
  func linearBackward(
    _ gradients: [Tensor], _ projections: [Projection], lowRank: [Tensor?], lowRankGradients: [Tensor?],
    into dx: Tensor?, dropout: DropoutKey?) throws

  /// Adds (dy_j · s·B_j)ᵀ · dropout(x) to each pair's `gradientA`. x: compute `[T, inputs]`, recomputed by then.
  func linearBackwardA(
    _ x: Tensor, _ projections: [Projection], lowRankGradients: [Tensor?], dropout: DropoutKey?) throws

  /// ``linear(_:_:into:lowRank:accumulate:dropout:)`` of gate and up, and their ``swiGLU(_:_:into:)`` into `activation`.
  func linearSwiGLU(
    _ x: Tensor, _ gateUp: [Projection], gate: Tensor, up: Tensor, lowRank: [Tensor?], into activation: Tensor,
    dropout: DropoutKey?) throws
  /// ``linearBackward(_:_:lowRank:lowRankGradients:into:dropout:)`` of down, whose dx passes on through
  /// ``swiGLUBackward(_:_:_:y:)``: `gate` and `up` become their gradients, `activation` (compute `[T, I]`) the activation
  /// again.
  func linearSwiGLUBackward(
    _ dy: Tensor, _ down: [Projection], lowRank: [Tensor?], lowRankGradients: [Tensor?], gate: Tensor, up: Tensor,
    activation: Tensor, dropout: DropoutKey?) throws

  /// y = x · Wᵀ with an fp32 result: the head. x: compute `[n, inputs]`.
  func logits(_ x: Tensor, _ head: any FrozenMatrix, into logits: Tensor) throws
  /// dx = dlogits · W. dlogits: compute `[n, outputs]`; dx: fp32 `[n, inputs]`.
  func logitsBackward(_ gradient: Tensor, _ head: any FrozenMatrix, into dx: Tensor) throws

  // MARK: Normalization, rotation, activation, attention

  /// y = x / rms(x) · γ. x: residual `[T, H]`; y: compute `[T, H]`; rstd: fp32 `[1, T]`; saved: compute `[T, H]`, receives
  /// x as the backward pass will read it. γ: fp32 `[1, H]`.
  func rmsNorm(_ x: Tensor, _ gamma: Tensor, epsilon: Float, into y: Tensor, rstd: Tensor, saved: Tensor?) throws
  /// y again, from what was saved.
  func rmsNormAgain(_ saved: Tensor, rstd: Tensor, _ gamma: Tensor, into y: Tensor) throws
  /// Adds the gradient through the norm to `dx` (residual `[T, H]`) and leaves a compute copy of the sum in `copy`.
  /// dy: fp32 `[T, H]`.
  func rmsNormBackward(_ dy: Tensor, saved: Tensor, rstd: Tensor, _ gamma: Tensor, addingTo dx: Tensor, copy: Tensor?)
    throws

  /// Adds `bias` (fp32 `[1, heads · headDimension]`) where given, then rotates each head of `x` (compute `[T, heads ·
  /// headDimension]`) in place by its position's angles: pairs (i, i + rotary/2), as Hugging Face stores them.
  /// `cosines`, `sines`: fp32 `[positions, rotary/2]`; `inverse` turns back (the backward pass).
  func rotate(
    _ x: Tensor, headDimension: Int, bias: Tensor?, positions: [Int32], cosines: Tensor, sines: Tensor, inverse: Bool)
    throws
  /// Adds `bias` (fp32 `[1, columns]`) to each row of `x` (compute or residual).
  func addBias(_ bias: Tensor, to x: Tensor) throws

  /// y = x / rms(x) · γ, each head of each row by itself; y may be x. x, y: compute `[T, heads · d]`; γ: fp32 `[1, d]`;
  /// rstd: fp32 `[T, heads]`, nil when no backward pass follows.
  func headNorm(_ x: Tensor, _ gamma: Tensor, epsilon: Float, into y: Tensor, rstd: Tensor?) throws
  /// Turns `gradient`, that of y, into that of x in place. gradient, x: compute `[T, heads · d]`.
  func headNormBackward(_ gradient: Tensor, _ x: Tensor, rstd: Tensor, _ gamma: Tensor) throws

  /// output = softmax(scale · q kᵀ) v within each span, causal. q: compute `[T, heads · d]`; k, v: compute
  /// `[·, keyValueHeads · d]`; logSumExp: fp32 `[heads, T]`, nil when no backward pass follows.
  func attention(
    _ q: Tensor, _ k: Tensor, _ v: Tensor, _ shape: AttentionShape, _ spans: [AttentionSpan], into output: Tensor,
    logSumExp: Tensor?) throws
  /// dq, dk, dv from dOutput; they may be q, k and v themselves. `workspace`: at least ``attentionWorkspace(_:_:inPlace:)`` bytes.
  func attentionBackward(
    _ dOutput: Tensor, _ q: Tensor, _ k: Tensor, _ v: Tensor, _ output: Tensor, logSumExp: Tensor,
    _ shape: AttentionShape, _ spans: [AttentionSpan], into dq: Tensor, _ dk: Tensor, _ dv: Tensor, workspace: Tensor)
    throws
  /// Bytes of workspace that ``attentionBackward(_:_:_:_:_:logSumExp:_:_:into:_:_:workspace:)`` needs;
  /// `inPlace`: where the gradients take the places of q, k and v.
  func attentionWorkspace(_ shape: AttentionShape, _ spans: [AttentionSpan], inPlace: Bool) -> Int

  /// y = silu(gate) · up. All compute `[T, I]`.
  func swiGLU(_ gate: Tensor, _ up: Tensor, into y: Tensor) throws
  /// Turns `gate` and `up` into their gradients in place, given dy; y is computed again where wanted.
  func swiGLUBackward(_ dy: Tensor, _ gate: Tensor, _ up: Tensor, y: Tensor?) throws

  // MARK: Loss

  /// The summed cross-entropy of rows of fp32 logits `[n, V]` against `targets` (none negative), and its gradient
  /// (softmax − one-hot) · scale into `gradient` (compute `[n, V]`) where wanted; a row's loss into `rowLosses` (n host
  /// values) where wanted.
  func crossEntropy(
    _ logits: Tensor, targets: [Int32], scale: Float, gradient: Tensor?, rowLosses: UnsafeMutablePointer<Float>?
  ) throws
    -> Double

  // MARK: Optimizer

  /// The sum of squares of an fp32 tensor, summed in a fixed order; not finite when an element is not.
  func squaredNorm(_ x: Tensor) throws -> Double
  /// One AdamW step on flat fp32 tensors of one size, in place (Loshchilov & Hutter, 2019: decay apart from the moments).
  func adamW(parameters: Tensor, gradients: Tensor, firstMoment: Tensor, secondMoment: Tensor, _ step: AdamWStep) throws
  /// destination = source · scale, converting the type; both dense, of one size.
  func scale(_ source: Tensor, by factor: Float, to destination: Tensor) throws

  /// Runs `body(task)` for every task below `tasks` on threads of the host, several at once; throws the first error when all are
  /// done.
  func concurrently(tasks: Int, _ body: @Sendable (Int) throws -> Void) throws

  /// Waits until all that was asked for is done.
  func synchronize() throws
}

// What a device may do in one piece, and need not.
extension Device {
  /// All matrices of a device in the host's memory are there already.
  public func makeMatrixStream(_ shapes: [FrozenShape], places: Int) throws -> (any MatrixStream)? { nil }

  /// A device in the host's memory leaves limits to the plan.
  public func limitMemory(to limit: Int?) {}

  /// Plain memory, which grows with what is stored.
  public func makeHostStore(places byteCounts: [Int]) throws -> any HostStore {
    PlainHostStore(places: byteCounts.count, on: self)
  }

  /// One task after the other.
  public func concurrently(tasks: Int, _ body: @Sendable (Int) throws -> Void) throws {
    for task in 0..<tasks { try body(task) }
  }

  /// A copy for each direction in the type of matrix operands, or four bits and an absmax in fp32 for each 64 elements, which are
  /// opened in a place for each matrix of a product.
  public func frozenFootprint(_ groups: [FrozenShape], places: Int) -> FrozenFootprint {
    var bytes = 0
    var opened: [Int] = []
    for group in groups {
      let copies = (group.directions.contains(.forward) ? 1 : 0) + (group.directions.contains(.backward) ? 1 : 0)
      for (index, (outputs, storage)) in zip(group.outputs, group.storage).enumerated() {
        let count = outputs * group.inputs
        guard storage == .nf4(resident: false) || storage == .tiled(.nf4) else {
          bytes += copies * count * computeType.byteCount
          continue
        }
        bytes += count / 2 + count / NF4Blocks.blockLength * 4
        while opened.count <= index { opened.append(0) }
        opened[index] = max(opened[index], count * computeType.byteCount)
      }
    }
    return FrozenFootprint(matrices: bytes, working: opened.reduce(0, +))
  }

  /// The two operations, one after the other.
  public func linearSwiGLU(
    _ x: Tensor, _ gateUp: [Projection], gate: Tensor, up: Tensor, lowRank: [Tensor?], into activation: Tensor,
    dropout: DropoutKey?
  ) throws {
    try linear(x, gateUp, into: [gate, up], lowRank: lowRank, accumulate: false, dropout: dropout)
    try swiGLU(gate, up, into: activation)
  }

  /// The two operations, one after the other.
  public func linearSwiGLUBackward(
    _ dy: Tensor, _ down: [Projection], lowRank: [Tensor?], lowRankGradients: [Tensor?], gate: Tensor, up: Tensor,
    activation: Tensor, dropout: DropoutKey?
  ) throws {
    try linearBackward(
      [dy], down, lowRank: lowRank, lowRankGradients: lowRankGradients, into: activation, dropout: dropout)
    try swiGLUBackward(activation, gate, up, y: activation)
  }
}

/// A device's own memory, in bytes.
public struct DeviceMemory: Sendable, Equatable {
  /// What the device holds for us.
  public var used: Int
  /// The most that it held since ``Device/resetPeak()``.
  public var peak: Int
  /// What it could still give, whatever limit is set.
  public var free: Int
  /// What the device itself says is taken, by everybody and by its own needs.
  public var taken: Int

  /// Numbers from their parts.
  public init(used: Int, peak: Int, free: Int, taken: Int) {
    self.used = used
    self.peak = peak
    self.free = free
    self.taken = taken
  }
}

/// The numbers of one AdamW step.
public struct AdamWStep: Sendable, Equatable {
  /// The learning rate η.
  public var learningRate: Float
  /// Decay rate of the first moment.
  public var beta1: Double
  /// Decay rate of the second moment.
  public var beta2: Double
  /// Added to the root of the second moment.
  public var epsilon: Float
  /// Parameters shrink by η · weightDecay.
  public var weightDecay: Float
  /// What gradients are multiplied by first: clipping.
  public var gradientScale: Float
  /// 1 for the first step: the bias correction.
  public var step: Int

  /// A step from its numbers.
  public init(
    learningRate: Float, beta1: Double, beta2: Double, epsilon: Float, weightDecay: Float, gradientScale: Float,
    step: Int
  ) {
    self.learningRate = learningRate
    self.beta1 = beta1
    self.beta2 = beta2
    self.epsilon = epsilon
    self.weightDecay = weightDecay
    self.gradientScale = gradientScale
    self.step = step
  }
}

/// What a device cannot do for want of memory, a library or an instruction.
public struct DeviceError: Error, CustomStringConvertible, Equatable {
  /// One line for the user.
  public let description: String
  /// An error with its line.
  public init(_ description: String) { self.description = description }
}
