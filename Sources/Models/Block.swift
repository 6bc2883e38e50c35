import Tensors

/// One transformer block's weights.
struct Block: Sendable {
  /// γ before attention and before the MLP: fp32 `[1, hidden]`.
  var attentionNorm: Tensor
  var mlpNorm: Tensor
  /// q, k, v: they read the same input.
  var queryKeyValue: [Projection]
  /// Biases of the projections that have one: fp32 `[1, outputs]`.
  var biases: [TargetModule: Tensor]
  /// γ of the norms of each query and each key head: fp32 `[1, headDimension]`; nil where the architecture has none.
  var headNorms: (query: Tensor, key: Tensor)?
  /// Whether queries and keys turn with their position.
  var rotates: Bool
  /// How far back attention sees; nil: all the way.
  var window: Int?
  var output: [Projection]
  /// gate, up: they read the same input.
  var gateUp: [Projection]
  var down: [Projection]
  /// Where the gradients of norms and biases are added up; nil while they stay as they are.
  var vectorGradients: VectorGradients?

  /// The projection of a module.
  subscript(_ module: TargetModule) -> Projection {
    get {
      switch module {
      case .query: queryKeyValue[0]
      case .key: queryKeyValue[1]
      case .value: queryKeyValue[2]
      case .output: output[0]
      case .gate: gateUp[0]
      case .up: gateUp[1]
      case .down: down[0]
      }
    }
    set {
      switch module {
      case .query: queryKeyValue[0] = newValue
      case .key: queryKeyValue[1] = newValue
      case .value: queryKeyValue[2] = newValue
      case .output: output[0] = newValue
      case .gate: gateUp[0] = newValue
      case .up: gateUp[1] = newValue
      case .down: down[0] = newValue
      }
    }
  }
}

/// What one block's forward pass leaves for its backward pass, over `T` tokens.
///
/// All compute type but the statistics.
struct BlockMemory {
  /// The residual stream before attention and before the MLP, `[T, hidden]`; nil when no backward pass follows.
  var x: Tensor?
  var xMiddle: Tensor?
  /// 1 / rms of each row: fp32 `[1, T]`.
  var attentionRstd: Tensor
  var mlpRstd: Tensor
  /// What the norms of heads leave for their backward pass; nil where there are none, or no backward pass follows.
  var headNorms: HeadNormMemory?
  /// After the rotation.
  var q: Tensor
  var k: Tensor
  var v: Tensor
  /// What attention reads instead of `k` and `v` when those are the end of a longer cache.
  var cachedKeys: Tensor?
  var cachedValues: Tensor?
  /// Where `k` and `v` go and what attention reads, where the cache lies in pages.
  var paged: PagedLayer?
  /// The attention's output, `[T, heads · headDimension]`, and the log of its softmax sums, fp32 `[heads, T]`.
  var attended: Tensor
  var logSumExp: Tensor?
  /// Before the activation, `[T, intermediate]`.
  var gate: Tensor
  var up: Tensor
  /// x · Aᵀ of each module that has an adapter, `[T, rank]`.
  var lowRank: [TargetModule: Tensor]
  /// What each module gives before its magnitude scales it, `[T, outputs]`; of modules with a magnitude only.
  var unscaled: [TargetModule: Tensor] = [:]
  /// What all layers share where inputs are dropped before magnitudes; nil elsewhere.
  var halves: DroppedHalves?

  func lowRank(_ modules: [TargetModule]) -> [Tensor?] { modules.map { lowRank[$0] } }
}

/// Queries and keys before the norms of their heads, and 1 / rms of each head, fp32 `[T, heads]`.
struct HeadNormMemory {
  var q: Tensor
  var k: Tensor
  var queryRstd: Tensor
  var keyRstd: Tensor
}

/// What every block of a batch shares.
struct BlockContext {
  /// The window is each block's own.
  var attention: AttentionShape
  var epsilon: Float
  var positions: [Int32]
  var spans: [AttentionSpan]
  var cosines: Tensor
  var sines: Tensor
  /// nil outside training.
  var dropout: DropoutKey?
  /// Tokens that all but attention goes through at once; nil: all.
  var tile: Int?
  /// Receives what each group of linear layers read, and the gradients of what they wrote, in the backward pass.
  var observe: ((_ modules: [TargetModule], _ x: Tensor, _ gradients: [Tensor]) throws -> Void)?
}

extension Block {
  /// One block over `T` packed tokens.
  ///
  /// `x` is the residual stream, `[T, hidden]`, updated in place. `normed` `[T, hidden]` and `activation` `[T,
  /// intermediate]` are scratch, compute, of as many rows as a tile has.
  func forward(
    _ x: Tensor, _ memory: BlockMemory, normed: Tensor, activation: Tensor, _ context: BlockContext,
    on device: any Device
  ) throws {
    let tiles = context.tiles(of: x.rows)
    for tile in tiles {
      try enterAttention(
        x.rows(tile), memory.rows(tile, of: x.rows), normed: normed.prefix(tile.count), context.rows(tile), on: device)
    }
    try attend(memory, context, on: device)
    for tile in tiles {
      let (x, memory, context) = (x.rows(tile), memory.rows(tile, of: x.rows), context.rows(tile))
      let activation = activation.prefix(tile.count)
      try leaveAttention(x, memory, normed: normed.prefix(tile.count), context, on: device)
      try gateAndUp(normed.prefix(tile.count), memory, activation: activation, context, on: device)
      try project(activation, [.down], into: [x], memory, accumulate: true, dropout: context.dropout, on: device)
      try addBias(of: .down, to: x, on: device)
    }
  }

  /// Norm, queries, keys and values of some rows.
  func enterAttention(
    _ x: Tensor, _ memory: BlockMemory, normed: Tensor, _ context: BlockContext, on device: any Device
  ) throws {
    try device.rmsNorm(
      x, attentionNorm, epsilon: context.epsilon, into: normed, rstd: memory.attentionRstd, saved: memory.x)
    try project(
      normed, [.query, .key, .value],
      into: [memory.headNorms?.q ?? memory.q, memory.headNorms?.k ?? memory.k, memory.v], memory,
      dropout: context.dropout, on: device)
    try finishHeads(memory, context, on: device)
  }

  /// Attention itself, over all rows.
  func attend(_ memory: BlockMemory, _ context: BlockContext, on device: any Device) throws {
    if let paged = memory.paged { return try paged.attend(memory, attention(context)) }
    try device.attention(
      memory.q, memory.cachedKeys ?? memory.k, memory.cachedValues ?? memory.v, attention(context), context.spans,
      into: memory.attended, logSumExp: memory.logSumExp)
  }

  /// Adds what attention yields to some rows of the residual stream, and leaves the MLP's input in `normed`.
  func leaveAttention(
    _ x: Tensor, _ memory: BlockMemory, normed: Tensor, _ context: BlockContext, on device: any Device
  ) throws {
    try project(
      memory.attended, [.output], into: [x], memory, accumulate: true, dropout: context.dropout, on: device)
    try addBias(of: .output, to: x, on: device)
    try device.rmsNorm(
      x, mlpNorm, epsilon: context.epsilon, into: normed, rstd: memory.mlpRstd, saved: memory.xMiddle)
  }

  /// Gate and up with their biases, and the activation where it is wanted.
  func gateAndUp(
    _ normed: Tensor, _ memory: BlockMemory, activation: Tensor?, _ context: BlockContext, on device: any Device
  ) throws {
    let lowRank = memory.lowRank([.gate, .up])
    // Without biases the activation follows the products at once, which a device may do in one piece.
    if let activation, biases[.gate] == nil, biases[.up] == nil, !hasMagnitude(.gate), !hasMagnitude(.up) {
      return try device.linearSwiGLU(
        normed, gateUp, gate: memory.gate, up: memory.up, lowRank: lowRank, into: activation, dropout: context.dropout)
    }
    try project(
      normed, [.gate, .up], into: [memory.gate, memory.up], memory, dropout: context.dropout, on: device)
    try addBias(of: .gate, to: memory.gate, on: device)
    try addBias(of: .up, to: memory.up, on: device)
    if let activation { try device.swiGLU(memory.gate, memory.up, into: activation) }
  }

  /// Biases of q, k and v, the norms of heads, the rotation: in this order, where there are any.
  func finishHeads(_ memory: BlockMemory, _ context: BlockContext, on device: any Device) throws {
    let kept = memory.headNorms
    for (module, x, y, rstd) in [
      (TargetModule.query, kept?.q, memory.q, kept?.queryRstd), (.key, kept?.k, memory.k, kept?.keyRstd),
    ] {
      let rotatesAtOnce = rotates && headNorms == nil
      if !rotatesAtOnce { try addBias(of: module, to: x ?? y, on: device) }
      if let headNorms {
        let gamma = module == .query ? headNorms.query : headNorms.key
        try device.headNorm(x ?? y, gamma, epsilon: context.epsilon, into: y, rstd: rstd)
      }
      guard rotates else { continue }
      try device.rotate(
        y, headDimension: context.attention.headDimension, bias: rotatesAtOnce ? biases[module] : nil,
        positions: context.positions, cosines: context.cosines, sines: context.sines, inverse: false)
    }
    try addBias(of: .value, to: memory.v, on: device)
  }

  func addBias(of module: TargetModule, to x: Tensor, on device: any Device) throws {
    if let bias = biases[module] { try device.addBias(bias, to: x) }
  }

  /// The shape of this block's attention.
  func attention(_ context: BlockContext) -> AttentionShape {
    var shape = context.attention
    shape.window = window
    return shape
  }
}
