"""Copies of a simulator on other machines: hosts join the learner over TLS and step them.

``frames``        what is written on the wire
``certificates``  the certificate of one training, and its token
``copy_process``  one copy, in a process of its own on a host
``packed_steps``  a step in its shortest form
``messages``      how a host and its copies send each other bytes
``host``          the program ``drillyard simulator-host``
``listener``      the learner's side: who may join, and who has joined
``vec_env``       the copies as a Stable-Baselines3 ``VecEnv``
``providers``     who starts hosts: a protocol, found by the name of the backend
``posted``        an invitation in the mailbox, for workers that start hosts by themselves
"""
