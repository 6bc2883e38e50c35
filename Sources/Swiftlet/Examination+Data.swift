import Doctor
import JSONValues
import Tokenization
import Training

extension Examination {
  /// Records of a dataset that are looked at for lost messages.
  private static let mostSamples = 256

  /// What is wrong with training data as the model's own template lays it out.
  ///
  /// Throws a `DatasetError` when a file cannot be read; finds nothing where the model has no tokenizer.
  public func findings(inData paths: [String], maxSequenceLength: Int = 2048) throws -> [Finding] {
    guard let tokenizer else { return [] }
    let dataset = try Dataset(paths: paths)
    let options = TokenizedDataset.Options(maxSequenceLength: maxSequenceLength, pairs: dataset.holdsPairs)
    var findings: [Finding] = []
    do {
      let counts = try TokenizedDataset(dataset, tokenizer: tokenizer, options: options).counts
      if counts.dropped > 0 {
        findings.append(
          Finding(
            id: "labels-partly-masked", severity: .warning,
            message: "Some samples have no token that is trained and are left out.",
            evidence:
              "\(paths.joined(separator: ", ")): \(counts.withoutResponse) of \(counts.samples) samples have no "
              + "response, \(counts.cutBeforeResponse) are cut to \(maxSequenceLength) tokens before it",
            repair: "Give every sample a response of the assistant; raise --max-seq-length."))
      }
    } catch let error as DatasetError where error.message.hasPrefix(TokenizedDataset.nothingToTrainOn) {
      findings.append(
        Finding(
          id: "labels-all-masked", severity: .error,
          message: "No token of the data is trained: with this template there is nothing to learn from it.",
          evidence: "\(error)",
          repair: "Give the samples responses of the assistant, mend the template so that it writes them, or train on "
            + "everything with --train-on all."))
    }
    return findings + lostMessages(dataset, tokenizer, paths)
  }

  /// Messages of the data whose words the template does not write.
  private func lostMessages(_ dataset: Dataset, _ tokenizer: Tokenizer, _ paths: [String]) -> [Finding] {
    var lost: [String: Int] = [:]
    let samples = (try? dataset.samples(first: Self.mostSamples)) ?? []
    for sample in samples {
      guard case .conversation(let messages, let tools) = sample,
        let text = try? tokenizer.renderConversation(messages, tools: tools)
      else { continue }
      for message in messages.array ?? [] {
        guard let role = message["role"]?.string, let content = message["content"]?.string else { continue }
        // Templates trim words, and may take reasoning away before an answer.
        let words = content.split(whereSeparator: \.isWhitespace).suffix(4)
        if let last = words.last, !text.contains(last) { lost[role, default: 0] += 1 }
      }
    }
    return lost.sorted { $0.key < $1.key }.map { role, count in
      Finding(
        id: "data-loses-message", severity: role == "assistant" || role == "user" ? .error : .warning,
        message: "The chat template does not write what the data's \(role) messages say: the model never reads it.",
        evidence: "\(paths.joined(separator: ", ")): \(count) messages in the first \(samples.count) samples",
        repair: "Use a template that writes \(role) messages, or take them out of the data.")
    }
  }
}
