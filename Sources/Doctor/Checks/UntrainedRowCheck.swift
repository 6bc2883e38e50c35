import ModelFiles
import Tokenization

/// Rows of the embedding and the head that no training has touched, though a template uses their tokens.
enum UntrainedRowCheck: Check {
  /// Ordinary rows that are looked at to know what a trained row is like.
  private static let sampleCount = 512

  static func examine(_ patient: Patient, _ plan: inout Plan) -> [Finding] {
    let sources = patient.templates.map { Array($0.source.utf8) }
    var used = patient.vocabulary.added.filter { token in
      sources.contains { find(token.content.utf8, in: $0) != nil }
    }.map { SpecialToken(content: $0.content, id: Int($0.id)) }
    if let end = plan.turnEnd ?? plan.token(.eos, of: patient), !used.contains(end) { used.append(end) }
    guard !used.isEmpty, used.count <= 512 else { return [] }
    var evidence: [String] = []
    var isSevere = false
    for matrix in [patient.embedding, patient.head].compactMap({ $0 }) {
      guard let rows = try? RowSample(matrix, used.compactMap(\.id), sampleCount) else { continue }
      for token in used {
        guard let id = token.id, let reason = rows.reason(id) else { continue }
        evidence.append("\(matrix.name): the row of \(token.description) \(reason)")
        isSevere = isSevere || token == plan.turnEnd
      }
    }
    guard !evidence.isEmpty else { return [] }
    return [
      Finding(
        "embedding-untrained", isSevere ? .error : .warning,
        "The chat template uses tokens whose rows were never trained: the model reads noise there and cannot write them, "
          + "and adapters do not change that.",
        evidence: evidence.prefix(8).joined(separator: "; ")
          + (evidence.count > 8 ? "; and \(evidence.count - 8) more" : ""),
        repair: "Tune the instruct model with this template, or a template whose tokens the model knows; or train the "
          + "embedding and the head too.")
    ]
  }

  /// The norms of some rows beside those of ordinary ones.
  private struct RowSample {
    private var norms: [Int: Double] = [:]
    private var twins: Set<Int> = []
    private var median = 0.0

    init(_ matrix: StoredTensor, _ ids: [Int], _ count: Int) throws {
      let (rows, length) = (matrix.rowCount, matrix.rowLength)
      guard rows > 0, length > 0 else { return }
      var row = [Float](repeating: 0, count: length)
      func read(_ index: Int) throws -> Double {
        let result = row.withUnsafeMutableBufferPointer { row in
          Result { () throws(ModelFileError) in
            if let base = row.baseAddress { try matrix.decode(rows: index..<index + 1, into: base) }
          }
        }
        try result.get()
        return row.reduce(0) { $0 + Double($1) * Double($1) }.squareRoot()
      }
      let stride = max(1, rows / count)
      var sampled: [Double] = []
      for index in Swift.stride(from: 0, to: rows, by: stride) { sampled.append(try read(index)) }
      sampled.sort()
      median = sampled[sampled.count / 2]
      var seen: [[Float]: Int] = [:]
      for id in Set(ids) where id >= 0 && id < rows {
        norms[id] = try read(id)
        if let other = seen.updateValue(id, forKey: row) { twins.formUnion([id, other]) }
      }
    }

    /// Why a row looks as if it was never trained.
    func reason(_ id: Int) -> String? {
      guard let norm = norms[id], median > 0 else { return nil }
      if norm == 0 { return "is all zeros" }
      if norm < median / 50 { return "has a norm of \(rounded(norm / median * 100)) % of the ordinary" }
      return twins.contains(id) ? "is the same as another token's" : nil
    }

    private func rounded(_ value: Double) -> String { "\((value * 100).rounded() / 100)" }
  }
}
