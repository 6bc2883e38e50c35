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
  /// Receives what each group of linear layers read, and the gradients of what they wrote, in the backward pass.
  var observe: ((_ modules: [TargetModule], _ x: Tensor, _ gradients: [Tensor]) throws -> Void)?
}

extension Block {
  /// One block over `T` packed tokens.
  ///
  /// `x` is the residual stream, `[T, hidden]`, updated in place. `normed` `[T, hidden]` and `activation` `[T,
  /// intermediate]` are scratch, compute.
  func forward(
    _ x: Tensor, _ memory: BlockMemory, normed: Tensor, activation: Tensor, _ context: BlockContext,
    on device: any Device
  ) throws {
    try attend(x, memory, normed: normed, context, on: device, attentionIsKept: false)
    try device.rmsNorm(
      x, mlpNorm, epsilon: context.epsilon, into: normed, rstd: memory.mlpRstd, saved: memory.xMiddle)
    try gateAndUp(normed, memory, activation: activation, context, on: device)
    try project(activation, [.down], into: [x], memory, accumulate: true, dropout: context.dropout, on: device)
    try addBias(of: .down, to: x, on: device)
  }

  /// What the backward pass reads and the forward pass did not keep.
  ///
  /// `x` is the residual stream before the block where `kept` is less than the projections, and is used up.
  func forwardAgain(
    _ x: Tensor, _ memory: BlockMemory, normed: Tensor, activation: Tensor, _ context: BlockContext,
    on device: any Device, kept: LayerMemory
  ) throws {
    guard kept < .everything else { return }
    if kept < .projections {
      try attend(x, memory, normed: normed, context, on: device, attentionIsKept: kept >= .attention)
      try device.rmsNorm(
        x, mlpNorm, epsilon: context.epsilon, into: normed, rstd: memory.mlpRstd, saved: memory.xMiddle)
    } else if let xMiddle = memory.xMiddle {
      try device.rmsNormAgain(xMiddle, rstd: memory.mlpRstd, mlpNorm, into: normed)
    }
    // The MLP's output is of no use any more; its activation is where an adapter reads it.
    let wantsActivation = down[0].lowRank != nil
    try gateAndUp(normed, memory, activation: wantsActivation ? activation : nil, context, on: device)
    if hasMagnitude(.down) {
      try unscaledAgain(activation, .down, memory, dropout: context.dropout, on: device)
    } else if wantsActivation {
      try device.lowRankInput(activation, down, into: memory.lowRank([.down]), dropout: context.dropout)
    }
  }

  /// The block's first half: adds attention to the residual stream.
  private func attend(
    _ x: Tensor, _ memory: BlockMemory, normed: Tensor, _ context: BlockContext, on device: any Device,
    attentionIsKept: Bool
  ) throws {
    try device.rmsNorm(
      x, attentionNorm, epsilon: context.epsilon, into: normed, rstd: memory.attentionRstd, saved: memory.x)
    try project(
      normed, [.query, .key, .value],
      into: [memory.headNorms?.q ?? memory.q, memory.headNorms?.k ?? memory.k, memory.v], memory,
      dropout: context.dropout, on: device)
    try finishHeads(memory, context, on: device)
    if !attentionIsKept {
      try device.attention(
        memory.q, memory.cachedKeys ?? memory.k, memory.cachedValues ?? memory.v, attention(context), context.spans,
        into: memory.attended, logSumExp: memory.logSumExp)
    }
    try project(
      memory.attended, [.output], into: [x], memory, accumulate: true, dropout: context.dropout, on: device)
    try addBias(of: .output, to: x, on: device)
  }

  /// Gate and up with their biases, and the activation where it is wanted.
  private func gateAndUp(
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
  private func finishHeads(_ memory: BlockMemory, _ context: BlockContext, on device: any Device) throws {
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

  private func addBias(of module: TargetModule, to x: Tensor, on device: any Device) throws {
    if let bias = biases[module] { try device.addBias(bias, to: x) }
  }

  /// The shape of this block's attention.
  private func attention(_ context: BlockContext) -> AttentionShape {
    var shape = context.attention
    shape.window = window
    return shape
  }
}

/// Memory that one block's backward pass works in, over `T` tokens.
struct BlockGradients {
  /// The residual stream's gradient, `[T, hidden]`, and its compute copy: the operand of the next product.
  var dx: Tensor
  var dxOperand: Tensor
  /// The gradient of a norm's output, fp32 `[T, hidden]`.
  var dNormed: Tensor
  /// A norm's output again, compute `[T, hidden]`.
  var normed: Tensor
  /// The activation again, compute `[T, intermediate]`.
  var activation: Tensor
  /// Compute, as attention's own.
  var dAttended: Tensor
  var dq: Tensor
  var dk: Tensor
  var dv: Tensor
  /// dy · s·B of each module, compute `[T, rank]`.
  var lowRank: [TargetModule: Tensor]
  /// Attention's workspace.
  var workspace: Tensor

  func lowRank(_ modules: [TargetModule]) -> [Tensor?] { modules.map { lowRank[$0] } }
}

extension Block {
  /// The block's backward pass: turns `gradients.dx` from the gradient after the block into the one before it and adds
  /// to the adapters' gradients.
  ///
  /// `memory.gate` and `memory.up` are used up. When `isFirst`, nothing below learns, and the gradient before the block
  /// is not computed.
  func backward(
    _ memory: BlockMemory, _ gradients: BlockGradients, _ context: BlockContext, isFirst: Bool, on device: any Device
  ) throws {
    guard let x = memory.x, let xMiddle = memory.xMiddle, let logSumExp = memory.logSumExp else {
      throw ModelError("a block's forward pass kept nothing for its backward pass")
    }
    let dropout = context.dropout
    // MLP: down, then the activation, then gate and up.
    if dropped([.down], dropout) != nil {
      try projectBackward(
        [gradients.dxOperand], [.down], memory, lowRankGradients: gradients.lowRank([.down]),
        into: gradients.activation, dropout: dropout, on: device)
      try device.swiGLUBackward(gradients.activation, memory.gate, memory.up, y: gradients.activation)
    } else {
      try unscale(gradients.dxOperand, .down, memory, on: device)
      try device.linearSwiGLUBackward(
        gradients.dxOperand, down, lowRank: memory.lowRank([.down]), lowRankGradients: gradients.lowRank([.down]),
        gate: memory.gate, up: memory.up, activation: gradients.activation, dropout: dropout)
    }
    try device.linearBackwardA(
      gradients.activation, down, lowRankGradients: gradients.lowRank([.down]), dropout: dropout)
    try context.observe?([.down], gradients.activation, [gradients.dxOperand])
    try addWeightGradients([gradients.dxOperand], gradients.activation, [.down], on: device)
    try projectBackward(
      [memory.gate, memory.up], [.gate, .up], memory, lowRankGradients: gradients.lowRank([.gate, .up]),
      into: gradients.dNormed, dropout: dropout, on: device)
    if context.observe != nil || gateUp.contains(where: { $0.lowRank != nil || $0.gradient != nil }) {
      try device.rmsNormAgain(xMiddle, rstd: memory.mlpRstd, mlpNorm, into: gradients.normed)
      try context.observe?([.gate, .up], gradients.normed, [memory.gate, memory.up])
      try device.linearBackwardA(
        gradients.normed, gateUp, lowRankGradients: gradients.lowRank([.gate, .up]), dropout: dropout)
      try addWeightGradients([memory.gate, memory.up], gradients.normed, [.gate, .up], on: device)
    }
    try addNormGradient(gradients.dNormed, xMiddle, memory.mlpRstd, vectorGradients?.mlpNorm, on: device)
    try device.rmsNormBackward(
      gradients.dNormed, saved: xMiddle, rstd: memory.mlpRstd, mlpNorm, addingTo: gradients.dx,
      copy: gradients.dxOperand)
    // Attention: output, the softmax, then q, k and v.
    try context.observe?([.output], memory.attended, [gradients.dxOperand])
    try projectBackward(
      [gradients.dxOperand], [.output], memory, lowRankGradients: gradients.lowRank([.output]),
      into: gradients.dAttended, dropout: dropout, on: device)
    try device.linearBackwardA(
      memory.attended, output, lowRankGradients: gradients.lowRank([.output]), dropout: dropout)
    try addWeightGradients([gradients.dxOperand], memory.attended, [.output], on: device)
    try device.attentionBackward(
      gradients.dAttended, memory.q, memory.k, memory.v, memory.attended, logSumExp: logSumExp,
      attention(context), context.spans, into: gradients.dq, gradients.dk, gradients.dv,
      workspace: gradients.workspace)
    if rotates {
      for part in [gradients.dq, gradients.dk] {
        try device.rotate(
          part, headDimension: context.attention.headDimension, bias: nil, positions: context.positions,
          cosines: context.cosines, sines: context.sines, inverse: true)
      }
    }
    if let headNorms {
      guard let kept = memory.headNorms else {
        throw ModelError("a block's forward pass kept nothing for its backward pass")
      }
      try device.headNormBackward(gradients.dq, kept.q, rstd: kept.queryRstd, headNorms.query)
      try device.headNormBackward(gradients.dk, kept.k, rstd: kept.keyRstd, headNorms.key)
    }
    try projectBackward(
      [gradients.dq, gradients.dk, gradients.dv], [.query, .key, .value], memory,
      lowRankGradients: gradients.lowRank([.query, .key, .value]), into: isFirst ? nil : gradients.dNormed,
      dropout: dropout, on: device)
    if context.observe != nil || queryKeyValue.contains(where: { $0.lowRank != nil || $0.gradient != nil }) {
      try device.rmsNormAgain(x, rstd: memory.attentionRstd, attentionNorm, into: gradients.normed)
      try context.observe?([.query, .key, .value], gradients.normed, [gradients.dq, gradients.dk, gradients.dv])
      try device.linearBackwardA(
        gradients.normed, queryKeyValue, lowRankGradients: gradients.lowRank([.query, .key, .value]), dropout: dropout)
      try addWeightGradients(
        [gradients.dq, gradients.dk, gradients.dv], gradients.normed, [.query, .key, .value], on: device)
    }
    if !isFirst {
      try addNormGradient(gradients.dNormed, x, memory.attentionRstd, vectorGradients?.attentionNorm, on: device)
      try device.rmsNormBackward(
        gradients.dNormed, saved: x, rstd: memory.attentionRstd, attentionNorm, addingTo: gradients.dx,
        copy: gradients.dxOperand)
    }
  }
}
