// The adapter of hnswlib: the protocol of bench/peers/go/serve in C++, around the header of the library itself, so that neither Python nor
// its bindings are in the figures. Compiled by install.py with -O3 -march=native.

#include <sys/resource.h>
#include <sys/time.h>

#include <chrono>
#include <fstream>
#include <iostream>
#include <map>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include <malloc.h>

#include "hnswlib/hnswlib.h"

namespace {

constexpr size_t kNeighbours = 10;
constexpr uint32_t kMissing = 0xffffffff;

template <typename T>
std::vector<T> read(const std::string& name) {
  std::ifstream file(name, std::ios::binary | std::ios::ate);
  if (!file) throw std::runtime_error(name + " cannot be read");
  std::vector<T> out(size_t(file.tellg()) / sizeof(T));
  file.seekg(0);
  file.read(reinterpret_cast<char*>(out.data()), std::streamsize(out.size() * sizeof(T)));
  return out;
}

double seconds(const timeval& t) { return double(t.tv_sec) + 1e-6 * double(t.tv_usec); }

struct Clock {
  static double cpu() {
    rusage u;
    getrusage(RUSAGE_SELF, &u);
    return seconds(u.ru_utime) + seconds(u.ru_stime);
  }
  std::string spent() const {
    std::ostringstream out;
    out << "{\"cpu\": " << cpu() - began << ", \"wall\": " << std::chrono::duration<double>(std::chrono::steady_clock::now() - wall).count() << "}";
    return out.str();
  }
  double began = cpu();
  std::chrono::steady_clock::time_point wall = std::chrono::steady_clock::now();
};

struct Below : hnswlib::BaseFilterFunctor {
  std::vector<uint64_t> bits;
  bool operator()(hnswlib::labeltype row) override { return bits[row >> 6] >> (row & 63) & 1; }
};

struct Index {
  Index(const std::string& folder, size_t rows, size_t dim, const std::string& metric)
      : rows(rows), dim(dim), base(read<float>(folder + "/base.f32")), queries(read<float>(folder + "/queries.f32")) {
    for (std::string name : {"random", "correlated"}) columns[name] = read<uint16_t>(folder + "/" + name + ".u16");
    if (metric == "l2")
      space.reset(new hnswlib::L2Space(dim));
    else  // vectors have length 1 already: this is what its cosine does too
      space.reset(new hnswlib::InnerProductSpace(dim));
  }

  void build() {
    graph.reset(new hnswlib::HierarchicalNSW<float>(space.get(), rows, 16, 200));
    for (size_t row = 0; row < rows; row++) graph->addPoint(&base[row * dim], row);
  }

  void search(size_t ef, size_t count, size_t passes, const std::string& file) {
    graph->setEf(ef);
    count = std::min(count, queries.size() / dim);
    std::vector<uint32_t> found(count * kNeighbours, kMissing);
    Clock clock;
    for (size_t pass = 0; pass < passes; pass++) {
      for (size_t q = 0; q < count; q++) {
        auto top = graph->searchKnn(&queries[q * dim], kNeighbours, filter.get());
        for (size_t i = top.size(); i > 0; i--) {
          found[q * kNeighbours + i - 1] = uint32_t(top.top().second);
          top.pop();
        }
      }
    }
    std::string took = clock.spent();
    std::ofstream(file, std::ios::binary).write(reinterpret_cast<char*>(found.data()), std::streamsize(found.size() * sizeof(uint32_t)));
    std::cout << took << std::endl;
  }

  void allow(const std::string& column, int below) {
    filter.reset();
    if (column == "-") return;
    filter.reset(new Below);
    filter->bits.resize((rows + 63) / 64);
    const auto& values = columns.at(column);
    for (size_t row = 0; row < rows; row++)
      if (values[row] < below) filter->bits[row >> 6] |= uint64_t(1) << (row & 63);
  }

  size_t rows, dim;
  std::vector<float> base, queries;
  std::map<std::string, std::vector<uint16_t>> columns;
  std::unique_ptr<hnswlib::SpaceInterface<float>> space;
  std::unique_ptr<hnswlib::HierarchicalNSW<float>> graph;
  std::unique_ptr<Below> filter;
};

}  // namespace

int main(int argc, char** argv) {
  if (argc < 6) {
    std::cerr << "arguments: FOLDER ROWS DIM METRIC WORK" << std::endl;
    return 2;
  }
  Index index(argv[1], std::stoul(argv[2]), std::stoul(argv[3]), argv[4]);
  for (std::string line; std::getline(std::cin, line);) {
    std::istringstream words(line);
    std::string command;
    words >> command;
    try {
      if (command == "quit") {
        break;
      } else if (command == "build") {
        Clock clock;
        index.build();
        std::cout << clock.spent() << std::endl;
      } else if (command == "search") {
        size_t ef, count, passes;
        std::string file;
        words >> ef >> count >> passes >> file;
        index.search(ef, count, passes, file);
      } else if (command == "filter") {
        std::string column;
        int below;
        words >> column >> below;
        index.allow(column, below);
        std::cout << "{}" << std::endl;
      } else if (command == "memory") {
        malloc_trim(0);
        std::cout << "{\"bytes\": " << index.graph->indexFileSize() << ", \"hot\": 0, \"shares\": false}" << std::endl;
      } else {
        std::cout << "{\"error\": \"not supported\", \"skip\": true}" << std::endl;
      }
    } catch (const std::exception& e) {
      std::cout << "{\"error\": \"" << e.what() << "\"}" << std::endl;
    }
  }
}
