import Tensors

extension TrainingPass {
  /// What decides how large everything is.
  struct Extent {
    var shape: ModelShape
    /// The adapter that learns or is in use.
    var adapter: LoRAConfiguration?
    /// Whether a backward pass follows.
    var isLearning: Bool
    /// The most tokens of a batch.
    var capacity: Int
    var plan: ActivationPlan

    /// Bytes on the device and on the host.
    func byteCounts(on device: any Device) -> (device: Int, host: Int) {
      let made = TrainingPass.plan(self, on: device)
      return (made.arena.byteCount, made.layout.hostPlaces.reduce(0, +))
    }
  }

  /// The places of everything that a pass reads and writes.
  struct Layout {
    let capacity: Int
    let headRows: Int
    /// Tokens that all but attention goes through at once.
    let tile: Int
    /// By layer; what layers compute again, they share.
    private(set) var memories: [MemorySlots] = []
    /// The residual stream before each layer that computes its projections again.
    private(set) var inputs: [ArenaPlan.Slot?] = []
    /// The layers whose memory goes to the host, in order.
    private(set) var hostLayers: [Int] = []
    /// Bytes of the places there.
    private(set) var hostPlaces: [Int] = []
    /// Where layers in groups keep what they keep.
    private(set) var groups: GroupLayout?
    /// The residual stream of a group that is computed again.
    private(set) var groupStream: ArenaPlan.Slot?
    /// The residual stream, and its gradient once the last layer has read it.
    let x: ArenaPlan.Slot
    /// The residual stream of a tile, computed again.
    private(set) var stream: ArenaPlan.Slot?
    let normed, activation: ArenaPlan.Slot
    let headSaved, headRstd, headInput, logits, logitsGradient, headInputGradient: ArenaPlan.Slot
    let dxOperand, dNormed, dAttended, workspace: ArenaPlan.Slot
    /// Of q, k and v; nil where their gradients take their places.
    let gradients: [ArenaPlan.Slot]?
    let lowRankGradients: [TargetModule: ArenaPlan.Slot]
    /// See ``DroppedHalves``.
    private(set) var halves: (kept: ArenaPlan.Slot, rest: ArenaPlan.Slot, dKept: ArenaPlan.Slot, dRest: ArenaPlan.Slot)?

    init(_ extent: Extent, _ device: any Device, in plan: inout ArenaPlan) {
      let alignment = device.rowAlignment
      func aligned(_ rows: Int) -> Int { (max(rows, 1) + alignment - 1) / alignment * alignment }
      let (shape, compute) = (extent.shape, device.computeType)
      let ranks = [TargetModule: Int](
        uniqueKeysWithValues: (extent.adapter?.targetModules ?? []).sorted { $0.rawValue < $1.rawValue }
          .map { ($0, extent.adapter?.rank ?? 0) })
      let rows = aligned(extent.capacity)
      let tile = extent.plan.tile.map { min(aligned($0), rows) } ?? rows
      (capacity, self.tile) = (rows, tile)
      headRows = min(aligned(extent.plan.headRows ?? device.headRows), tile)
      let maker = Maker(
        shape, device, rows: rows, tile: tile, ranks: ranks, hasMagnitudes: extent.adapter?.useDoRA ?? false,
        replacesHeads: extent.plan.tile != nil && !shape.normalizesHeads)
      let layers = (0..<shape.layerCount).map { extent.plan[$0] }
      if !extent.isLearning {
        // Nothing is trained, nothing is kept, and one set of places serves all layers.
        let slots = maker.shared(for: .input, in: &plan)
        memories = layers.map { _ in slots }
      } else if let grouping = extent.plan.grouping {
        let made = GroupLayout(grouping, extent, maker, device, in: &plan)
        (memories, inputs, hostPlaces, groups) = (made.memories, made.inputs, made.hostPlaces, made)
        stream = plan.reserve(rows: tile, columns: shape.hidden, device.residualType)
      } else if layers.allSatisfy({ $0 == ActivationPlan.Layer(.everything) }) {
        memories = layers.map { _ in maker.memory(keeping: .everything, sharing: nil, in: &plan) }
      } else {
        let roundsInputs = extent.plan.roundsInputs
        let least = layers.map(\.keeps).min() ?? .everything
        let shared = maker.shared(for: least, holdsInput: !roundsInputs, in: &plan)
        func make(_ keeps: LayerMemory, in plan: inout ArenaPlan) -> (memory: MemorySlots, input: ArenaPlan.Slot?) {
          var memory = maker.memory(keeping: keeps, sharing: shared, in: &plan)
          guard keeps < .projections else { return (memory, nil) }
          // What a norm saves of its input is the rounded input.
          if roundsInputs {
            memory.x = maker.input(compute, in: &plan)
            return (memory, memory.x)
          }
          return (memory, maker.input(device.residualType, in: &plan))
        }
        // While one layer's memory travels, the next one's is in use.
        var pairs: [LayerMemory: [(memory: MemorySlots, input: ArenaPlan.Slot?)]] = [:]
        for layer in layers where layer.isOnHost && pairs[layer.keeps] == nil {
          pairs[layer.keeps] = (0..<2).map { _ in make(layer.keeps, in: &plan) }
        }
        for (index, layer) in layers.enumerated() {
          let made: (memory: MemorySlots, input: ArenaPlan.Slot?)
          if layer.isOnHost, let pair = pairs[layer.keeps] {
            made = pair[hostLayers.count % 2]
            hostLayers.append(index)
          } else {
            made = make(layer.keeps, in: &plan)
          }
          memories.append(made.memory)
          inputs.append(made.input)
        }
        if layers.contains(where: { $0.keeps < .projections }) {
          stream = plan.reserve(rows: tile, columns: shape.hidden, device.residualType)
        }
      }
      x = plan.reserve(rows: rows, columns: shape.hidden, device.residualType)
      let tiles = Groups(device, rows: tile, ranks: ranks)
      normed = tiles.reserve(shape.hidden, tailOfAny: [[.query, .key, .value], [.gate, .up]], in: &plan)
      dxOperand = tiles.reserve(shape.hidden, tailOfAny: [[.output], [.down]], in: &plan)
      dNormed = plan.reserve(rows: tile, columns: shape.hidden, .float32)
      // The head's part is over before the blocks' backward part begins.
      let headRows = headRows
      let head = plan.scope { plan in
        (
          saved: plan.reserve(rows: tile, columns: shape.hidden, compute),
          rstd: plan.reserve(rows: 1, columns: tile, .float32),
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
      activation = tiles.reserve([shape.intermediate], tail: [.down], in: &plan)[0]
      lowRankGradients = tiles.reserveLowRank(Groups.all, in: &plan)
      if extent.isLearning, let adapter = extent.adapter, adapter.useDoRA, adapter.dropout > 0 {
        let widest = max(shape.hidden, shape.queryWidth, shape.intermediate)
        halves = (
          plan.reserve(rows: tile, columns: widest, compute), plan.reserve(rows: tile, columns: widest, compute),
          plan.reserve(rows: tile, columns: widest, .float32), plan.reserve(rows: tile, columns: widest, .float32)
        )
      }
      // A group that is computed again goes forward where nothing of the backward pass is in use.
      if groups?.computesAgain ?? false {
        groupStream = plan.scope { $0.reserve(rows: rows, columns: shape.hidden, device.residualType) }
      }
      dAttended = plan.reserve(rows: rows, columns: shape.queryWidth, compute)
      gradients =
        maker.replacesHeads
        ? nil
        : Groups(device, rows: rows, ranks: ranks).reserve(
          [shape.queryWidth, shape.keyValueWidth, shape.keyValueWidth], tail: [.query, .key, .value], in: &plan)
      let attention = AttentionShape(
        heads: shape.heads, keyValueHeads: shape.keyValueHeads, headDimension: shape.headDimension)
      // Documents are padded to whole tiles: what short ones need beyond this, a pass allocates when it meets them.
      let spans = stride(from: 0, to: rows, by: 128).map { start in
        let document = start..<min(start + 128, rows)
        return AttentionSpan(queries: document, keys: document)
      }
      let workspaceBytes = max(
        device.attentionWorkspace(attention, spans, inPlace: maker.replacesHeads),
        device.attentionWorkspace(
          attention, [AttentionSpan(queries: 0..<rows, keys: 0..<rows)], inPlace: maker.replacesHeads))
      workspace = plan.reserve(rows: 1, columns: workspaceBytes, .uint8)
      for layer in hostLayers {
        hostPlaces.append(kept(by: layer, extent.plan).reduce(0) { $0 + $1.byteCount })
      }
    }

    /// The tiles of a batch of `rows` rows.
    func tiles(_ rows: Int) -> [Range<Int>] {
      stride(from: 0, to: rows, by: tile).map { $0..<min($0 + tile, rows) }
    }

    /// The place on the host of a layer's memory; nil where it stays on the device.
    func hostPlace(of layer: Int) -> Int? { hostLayers.firstIndex(of: layer) }

    /// What a layer keeps.
    func kept(by layer: Int, _ plan: ActivationPlan) -> [ArenaPlan.Slot] {
      (inputs[layer].map { [$0] } ?? []) + memories[layer].kept(at: plan[layer].keeps)
    }
  }
}
