import Tensors

extension TrainingPass {
  /// One layer's places; see ``BlockMemory``.
  struct MemorySlots {
    var x, xMiddle, attentionRstd, mlpRstd, q, k, v, attended, logSumExp, gate, up: ArenaPlan.Slot
    var headNorms: (q: ArenaPlan.Slot, k: ArenaPlan.Slot, queryRstd: ArenaPlan.Slot, keyRstd: ArenaPlan.Slot)?
    var lowRank: [TargetModule: ArenaPlan.Slot]

    init(_ shape: ModelShape, _ compute: DType, rows: Int, ranks: [TargetModule: Int], in plan: inout ArenaPlan) {
      func operand(_ columns: Int) -> ArenaPlan.Slot { plan.reserve(rows: rows, columns: columns, compute) }
      func statistics(_ count: Int) -> ArenaPlan.Slot { plan.reserve(rows: count, columns: rows, .float32) }
      x = operand(shape.hidden)
      xMiddle = operand(shape.hidden)
      attentionRstd = statistics(1)
      mlpRstd = statistics(1)
      if shape.normalizesHeads {
        headNorms = (
          q: operand(shape.queryWidth), k: operand(shape.keyValueWidth),
          queryRstd: plan.reserve(rows: rows, columns: shape.heads, .float32),
          keyRstd: plan.reserve(rows: rows, columns: shape.keyValueHeads, .float32)
        )
      }
      q = operand(shape.queryWidth)
      k = operand(shape.keyValueWidth)
      v = operand(shape.keyValueWidth)
      attended = operand(shape.queryWidth)
      logSumExp = statistics(shape.heads)
      gate = operand(shape.intermediate)
      up = operand(shape.intermediate)
      lowRank = ranks.mapValues { operand($0) }
    }
  }

  /// The places of everything that a pass reads and writes.
  struct Layout {
    let capacity: Int
    let headRows: Int
    /// By layer; layers that recompute share one.
    private(set) var memories: [MemorySlots] = []
    /// The residual stream before each layer that recomputes.
    private(set) var keptInputs: [Int: ArenaPlan.Slot] = [:]
    let x, normed, activation: ArenaPlan.Slot
    let headSaved, headRstd, headInput, logits, logitsGradient, headInputGradient: ArenaPlan.Slot
    let dx, dxOperand, dNormed, dAttended, dq, dk, dv, workspace: ArenaPlan.Slot
    let lowRankGradients: [TargetModule: ArenaPlan.Slot]

    init(
      _ shape: ModelShape, _ device: any Device, adapter: Adapter?, capacity rows: Int, headRows: Int, recomputed: Int,
      in plan: inout ArenaPlan
    ) {
      let compute = device.computeType
      let ranks = [TargetModule: Int](
        uniqueKeysWithValues: (adapter?.configuration.targetModules ?? []).sorted { $0.rawValue < $1.rawValue }
          .map { ($0, adapter?.configuration.rank ?? 0) })
      // Without an adapter to train nothing is kept, and one set serves all layers.
      let shared = adapter?.gradients == nil ? shape.layerCount : recomputed
      capacity = rows
      self.headRows = headRows
      if shared > 0 {
        let slots = MemorySlots(shape, compute, rows: rows, ranks: ranks, in: &plan)
        for layer in 0..<shared {
          memories.append(slots)
          if adapter?.gradients != nil {
            keptInputs[layer] = plan.reserve(rows: rows, columns: shape.hidden, device.residualType)
          }
        }
      }
      for _ in shared..<shape.layerCount {
        memories.append(MemorySlots(shape, compute, rows: rows, ranks: ranks, in: &plan))
      }
      x = plan.reserve(rows: rows, columns: shape.hidden, device.residualType)
      normed = plan.reserve(rows: rows, columns: shape.hidden, compute)
      dx = plan.reserve(rows: rows, columns: shape.hidden, device.residualType)
      dxOperand = plan.reserve(rows: rows, columns: shape.hidden, compute)
      dNormed = plan.reserve(rows: rows, columns: shape.hidden, .float32)
      // The head's part is over before the blocks' backward part begins.
      let head = plan.scope { plan in
        (
          saved: plan.reserve(rows: rows, columns: shape.hidden, compute),
          rstd: plan.reserve(rows: 1, columns: rows, .float32),
          input: plan.reserve(rows: headRows, columns: shape.hidden, compute),
          logits: plan.reserve(rows: headRows, columns: shape.vocabulary, .float32),
          gradient: plan.reserve(rows: headRows, columns: shape.vocabulary, compute),
          inputGradient: plan.reserve(rows: headRows, columns: shape.hidden, .float32)
        )
      }
      (headSaved, headRstd, headInput) = (head.saved, head.rstd, head.input)
      (logits, logitsGradient, headInputGradient) = (head.logits, head.gradient, head.inputGradient)
      // Forward and backward both want the activation; attention's gradients and the activation never live together, but
      // the adapters' need both orders, so each has a place.
      activation = plan.reserve(rows: rows, columns: shape.intermediate, compute)
      dAttended = plan.reserve(rows: rows, columns: shape.queryWidth, compute)
      dq = plan.reserve(rows: rows, columns: shape.queryWidth, compute)
      dk = plan.reserve(rows: rows, columns: shape.keyValueWidth, compute)
      dv = plan.reserve(rows: rows, columns: shape.keyValueWidth, compute)
      lowRankGradients = ranks.mapValues { plan.reserve(rows: rows, columns: $0, compute) }
      let attention = AttentionShape(
        heads: shape.heads, keyValueHeads: shape.keyValueHeads, headDimension: shape.headDimension)
      // Documents are padded to whole tiles: what short ones need beyond this, a pass allocates when it meets them.
      let spans = stride(from: 0, to: rows, by: 128).map { start in
        let document = start..<min(start + 128, rows)
        return AttentionSpan(queries: document, keys: document)
      }
      let workspaceBytes = max(
        device.attentionWorkspace(attention, spans),
        device.attentionWorkspace(attention, [AttentionSpan(queries: 0..<rows, keys: 0..<rows)]))
      workspace = plan.reserve(rows: 1, columns: workspaceBytes, .uint8)
    }
  }
}
