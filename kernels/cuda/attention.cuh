// What both ways of attention share: which keys a query may see, and which of its weights dropout keeps.
#pragma once
#include "common.cuh"
#include "dropout.cuh"

// As reference/softmax.py: the queries are the last T of the S positions, so query t stands at S - T + t.
struct Sight {
  int T, S;
  const unsigned char* mask;  // of one sequence: rows of S bytes
  int mask_row;               // from one query's row to the next; 0: all have the same
  bool causal;
  int window;

  __device__ bool allowed(int t, int s) const {
    int behind = S - T + t - s;  // how far the key lies before the query
    return t < T && s < S && (!causal || behind >= 0) && behind < window && (!mask || mask[(long long)t * mask_row + s]);
  }
  // Of the queries first ... last - 1: the keys that any of them may see, as far as causal and window tell.
  __device__ int first_key(int first) const { return max(0, S - T + first - window + 1); }
  __device__ int last_key(int last) const { return causal ? min(S, S - T + last) : S; }
  // Of the keys first ... last - 1: the queries that may see any of them.
  __device__ int first_query(int first) const { return causal ? max(0, first - (S - T)) : 0; }
  __device__ int last_query(int last) const { return min((long long)T, (long long)last - 1 - (S - T) + window); }
  // Whether each of these queries may see each of these keys, without asking for them one by one.
  __device__ bool all_allowed(int t, int t_end, int s, int s_end) const {
    return !mask && t_end <= T && s_end <= S && (!causal || S - T + t >= s_end - 1) && S - T + t_end - 1 - s < window;
  }
};

// Of the weights as rows (B H T, S).
struct Dropout {
  unsigned threshold, low, high;  // threshold 0: no dropout
  double factor;

  __device__ unsigned key(long long row) const { return row_key(unsigned(row), low, high); }
  __device__ bool keeps(unsigned key, int column) const { return kept(key, column, threshold); }
};
